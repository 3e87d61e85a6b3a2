package migration

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Rule is a statement of the migrations that the ledger can't work without: a trigger, a unique index or a view.
// Without it the database would accept what the lifecycle forbids, or return wrong results. An index that a query names
// is a rule too, because the query fails without it.
type Rule struct {
	Name  string
	Table string // the table of a trigger
	SQL   string
}

var (
	ruleStart = regexp.MustCompile(`(?m)^CREATE (TRIGGER|UNIQUE INDEX|VIEW|INDEX) (\w+)`)
	onTable   = regexp.MustCompile(`\sON (\w+)`)
)

// stepMark is the prefix of views that record the steps that were applied to this database. An adopted database lacks
// some.
const stepMark = "remediation_step_"

// namedIndexes is the prefix of the indexes that queries name with INDEXED BY.
const namedIndexes = "remediation_actions_claim"

// Rules returns the rules that the migrations in files create, in their order.
func Rules(files fs.FS) ([]Rule, error) {
	paths, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var rules []Rule
	for _, path := range paths {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		for _, at := range ruleStart.FindAllSubmatchIndex(text, -1) {
			kind, name := string(text[at[2]:at[3]]), string(text[at[4]:at[5]])
			if strings.HasPrefix(name, stepMark) || kind == "INDEX" && !strings.HasPrefix(name, namedIndexes) {
				continue
			}
			rule := Rule{Name: name, SQL: statement(string(text[at[0]:]))}
			if kind == "TRIGGER" {
				rule.Table = onTable.FindStringSubmatch(rule.SQL)[1]
			}
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// statement returns the statement at the start of text, with a GRANT that follows it directly. A statement ends with a
// line that ends in a semicolon. A trigger of SQLite contains such lines, and ends with the line END;.
func statement(text string) string {
	end := strings.Index(text, ";\n") + 1
	if strings.Contains(text[:end], "\nBEGIN\n") {
		end = strings.Index(text, "\nEND;\n") + len("\nEND;")
	}
	if strings.HasPrefix(text[end:], "\nGRANT ") {
		end += strings.Index(text[end:], ";\n") + 1
	}
	return text[:end]
}

// Missing returns the rules that are not present, by name.
func Missing(rules []Rule, present []string) (missing []Rule) {
	for _, rule := range rules {
		if !slices.Contains(present, rule.Name) {
			missing = append(missing, rule)
		}
	}
	return missing
}

// CheckRules returns remediation.ErrSchemaVersion if rules are missing or disabled.
func CheckRules(missing []Rule) error {
	if len(missing) == 0 {
		return nil
	}
	names := make([]string, len(missing))
	for i, rule := range missing {
		names[i] = rule.Name
	}
	return fmt.Errorf("%w: rules are missing or disabled in the database: %s; call Migrate to restore them",
		remediation.ErrSchemaVersion, strings.Join(names, ", "))
}
