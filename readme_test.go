package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadmeGo holds the Go of README.md to what it is said to be: review is the
// function itself, and the endpoint compiles.
func TestReadmeGo(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	review, err := os.ReadFile("functions/review/review.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range strings.Split(string(readme), "```go\n")[1:] {
		code, _, _ := strings.Cut(block, "```")
		switch {
		case strings.Contains(code, "package review"):
			found++
			if code != string(review) {
				t.Error("README's review is not functions/review/review.go")
			}
		case strings.Contains(code, "func cancel("):
			found++
			compiles(t, "package cancelorder\n\nimport (\n\t\"context\"\n\n\t\""+module+"functions/order\"\n\t\""+module+"runtime/function\"\n)\n\n"+code)
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 blocks are there", found)
	}
}

// compiles builds code as if it were a package of this module.
func compiles(t *testing.T, code string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "readme.go")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(here, "functions", "readme", "readme.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", list, "./functions/readme").CombinedOutput(); err != nil {
		t.Errorf("README's endpoint does not compile: %v\n%s", err, out)
	}
}
