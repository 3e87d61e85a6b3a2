TOOL = go tool -modfile=internal/tools/go.mod

# Lists the packages outside the standard library that an importer of a package compiles.
deps = go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}'

# For the long tests: how long each runs, the seed of a run to repeat (0: a new one), and which tests to run.
LENGTH ?= 10m
SEED ?= 0
RUN ?= .

.PHONY: help demo test race cover soak fuzz mutants lint generate diff bench bench-peers vet-sql deps tidy verify

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run the main job: queue, approve, reject, withdraw, execute, and print the ledger
	@go run ./internal/demo

test: ## run all tests; those of PostgreSQL need POSTGRES_URL, the URL of a superuser
	go test -count=1 -parallel 8 ./...
	cd internal/soak && go test -count=1 ./...
	@if [ -z "$$POSTGRES_URL" ]; then \
		echo 'PostgreSQL was not tested. To test it, name a server on which the tests may create databases:'; \
		echo '  POSTGRES_URL="postgres://postgres@127.0.0.1:5432/postgres" make test'; \
	fi

race: ## run the tests with the race detector, without those that start other processes
	go test -count=1 -parallel 8 -race -short -timeout 30m ./...
	cd internal/soak && go test -count=1 -race -timeout 30m -run 'Cancelled|Linearizable|Random' ./...

cover: ## print the test coverage of remediation/..., and fail below 90%
	@profile=$$(mktemp) && trap 'rm -f '$$profile EXIT && \
		go test -count=1 -parallel 8 -coverpkg=./remediation/... -coverprofile=$$profile ./remediation/... && \
		go tool cover -func=$$profile | awk '/^total:/ { print; exit !($$3 + 0 >= 90) }'

soak: ## run each long test for LENGTH=10m: kills, fail-over, histories; SEED=n repeats a run's choices, RUN=name one test
	cd internal/soak && go test -count=1 -timeout 0 -v -length $(LENGTH) -seed $(SEED) -run '$(RUN)' ./...

fuzz: ## fuzz every text input for LENGTH=10m each, on PostgreSQL too with POSTGRES_URL
	@for engine in sqlite $${POSTGRES_URL:+postgres}; do \
		for f in $$(go test -list '^Fuzz' ./remediation/$$engine | grep '^Fuzz'); do \
			go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(LENGTH) -fuzzminimizetime 10x ./remediation/$$engine || exit 1; \
		done; \
	done

mutants: ## drop each guard of the SQL, one at a time, and check that a test fails (needs an hour or two)
	go run ./internal/mutants

lint: ## gofmt, go vet and staticcheck, in every module
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	@for module in . internal/bench internal/soak; do \
		(cd $$module && go vet ./... && go tool -modfile=$(CURDIR)/internal/tools/go.mod staticcheck ./...) || exit 1; \
	done

generate: ## generate db/ from schema/ and queries/
	$(TOOL) sqlc generate

diff: ## fail if db/ is not what sqlc generates
	$(TOOL) sqlc diff

bench: ## measure the ledger against the bare driver, and on long histories (needs minutes)
	cd internal/bench && go run . ours -results RESULTS.md && go run . scale -results RESULTS.md && \
		{ [ -z "$$POSTGRES_URL" ] || go run . scale -engine postgres -results RESULTS.md; }

bench-peers: ## measure the ledger against River and goqite
	cd internal/bench && go run . peers -chart throughput.svg -results RESULTS.md

vet-sql: ## prepare every query on migrated databases of both engines (needs POSTGRES_URL)
	SQLC='$(TOOL) sqlc' go test -count=1 -run TestQueriesPrepare ./internal/sqlcheck

deps: ## fail if an importer of one package would get the dependencies of another
	@test -z "$$($(deps) ./remediation | grep -v '^github.com/homelab-cmd/actionledger/remediation$$')" || \
		{ echo 'remediation imports more than the standard library'; exit 1; }
	@! $(deps) ./remediation/sqlite | grep 'jackc' || { echo 'remediation/sqlite compiles pgx'; exit 1; }
	@! $(deps) ./remediation/postgres | grep 'modernc.org' || { echo 'remediation/postgres compiles SQLite'; exit 1; }
	@dir=$$(mktemp -d) && trap 'rm -rf '$$dir EXIT && root=$$PWD && cd $$dir && \
		printf 'package main\n\nimport _ "github.com/homelab-cmd/actionledger/remediation/sqlite"\n\nfunc main() {}\n' > main.go && \
		go mod init importer 2> /dev/null && \
		go mod edit -require=github.com/homelab-cmd/actionledger@v0.0.0 -replace=github.com/homelab-cmd/actionledger=$$root && \
		go mod tidy 2> /dev/null && go build -o /dev/null . && \
		! grep 'jackc' go.mod || { echo 'an importer of remediation/sqlite gets pgx in its go.mod'; exit 1; }

tidy: ## fail if a go.mod is not tidy
	go mod tidy -diff
	cd internal/tools && go mod tidy -diff
	cd internal/bench && go mod tidy -diff
	cd internal/soak && go mod tidy -diff

# CI runs these checks too, in this order.
checks = test cover race lint diff vet-sql tidy deps demo

verify: ## run every check that a change must pass
	@for check in $(checks); do echo "== make $$check"; $(MAKE) --no-print-directory $$check || exit 1; done
