package migration

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/homelab-cmd/actionledger/remediation"
)

// Rule is an object that the migrations create and that the code needs. Without a trigger, a unique index or a view the
// database would accept changes that the lifecycle forbids, or return wrong results. Without an index that a query
// names, the query would fail.
type Rule struct {
	Name  string
	Table string // the table of a trigger, otherwise ""
	SQL   string // the statement that creates it
}

var (
	ruleStart = regexp.MustCompile(`(?m)^CREATE (TRIGGER|UNIQUE INDEX|VIEW|INDEX) (\w+)`)
	onTable   = regexp.MustCompile(`\sON (\w+)`)
)

// stepPrefix begins the names of the views that mark which migration steps ran in a database. They are no rules: an
// adopted database does not have all of them.
const stepPrefix = "remediation_step_"

// namedIndexPrefix begins the names of the indexes that queries name in INDEXED BY.
const namedIndexPrefix = "remediation_actions_claim"

// Rules returns the rules that the migrations in files create, in the order of their creation.
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
			if strings.HasPrefix(name, stepPrefix) || kind == "INDEX" && !strings.HasPrefix(name, namedIndexPrefix) {
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

// statement returns the first statement of text, and the GRANT that may follow it. A statement ends at the first
// semicolon at the end of a line. A trigger of SQLite contains statements, so it ends at the line "END;".
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

// Missing returns the rules whose names are not in present, the names of the objects in a database.
func Missing(rules []Rule, present []string) (missing []Rule) {
	for _, rule := range rules {
		if !slices.Contains(present, rule.Name) {
			missing = append(missing, rule)
		}
	}
	return missing
}

// CheckRules returns an error that matches remediation.ErrSchemaVersion and names the missing rules, or nil if missing
// is empty. missing may contain disabled rules too.
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
