package verify_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waybill-go/waybill/eventstore/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestOnPostgres is a short run of the real command: three event stores, whose
// connections the server ends. (CI runs one on SQLite as README has it.)
func TestOnPostgres(t *testing.T) {
	server := pgtest.Shared(t)
	program := filepath.Join(t.TempDir(), "waybill")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/waybill-go/waybill").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "verify", "--duration", "5s", "--seed", "7", "--json",
		"--dir", t.TempDir(), "--orders", "4", "--writers", "16", "--postgres", server.URL("postgres")).Output()
	var report struct {
		Orders, Appends int
		Ends            map[string]int
		Faults          map[string]int
		Checks          []struct {
			Name       string
			Looked     int `json:"looked_at"`
			Violations []struct{ What string }
		}
	}
	if bad := json.Unmarshal(out, &report); err != nil || bad != nil {
		t.Fatalf("%v, %v: %s", err, bad, out)
	}
	if report.Orders == 0 || report.Ends["shipped"] == 0 || report.Appends == 0 || len(report.Faults) == 0 || len(report.Checks) != 9 {
		t.Errorf("it did too little: %s", out)
	}
	for _, c := range report.Checks {
		if c.Looked == 0 || len(c.Violations) > 0 {
			t.Errorf("%s: looked at %d, found %+v", c.Name, c.Looked, c.Violations)
		}
	}
}
