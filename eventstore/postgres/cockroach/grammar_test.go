// Package cockroach reads every statement that eventstore/postgres sends with
// CockroachDB's own grammar. It is a module of its own, because the parser has
// many dependencies that a user of the store has no need of.
package cockroach

import (
	"os"
	"testing"

	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/parser"
)

func TestEveryStatementIsInTheGrammar(t *testing.T) {
	for _, folder := range []string{"eventstore/postgres", "functions/orderdb"} {
		sql, err := os.ReadFile("../../../" + folder + "/testdata/statements.sql")
		if err != nil {
			t.Fatal(err)
		}
		statements, err := parser.Parse(string(sql))
		if err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		if len(statements) < 15 {
			t.Errorf("%s: %d statements are not all", folder, len(statements))
		}
	}
	if _, err := parser.Parse("LISTEN x; SELECT pg_advisory_lock(1) FOR SHARE OF TABLE"); err == nil {
		t.Error("the parser takes anything")
	}
}
