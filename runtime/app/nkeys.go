package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// Keys of nobody's function.
const (
	adminKey  = "admin"  // who provisions, and looks
	clientKey = "client" // who only sends requests
)

// keyNames are all that have a key of their own.
func (p Program) keyNames() []string {
	all := p.names()
	for _, more := range []string{adminKey, clientKey} {
		if !slices.Contains(all, more) {
			all = append(all, more)
		}
	}
	return all
}

type nkeysCommand struct {
	Dir string `arg:"" help:"The folder for the keys."`
}

// Help is shown by nkeys --help.
func (nkeysCommand) Help() string {
	return "Makes DIR/NAME.nk for every function, for " + EventStore + ", " + adminKey + " and " + clientKey +
		": a seed, for NATS_NKEY of that process and for nobody else. The public keys are in DIR/nkeys.env, as the variables that " +
		"deploy/nats.conf asks for. A seed that is there is kept.\n\nExample:\n\n  $ " + commandName() + " nkeys ./keys\n  " +
		"$ set -a; . ./keys/nkeys.env; nats-server -c deploy/nats.conf"
}

// Run makes the seeds that are missing, and lists the public keys of all.
func (c nkeysCommand) Run(s *session) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	var list strings.Builder
	for _, name := range s.program.keyNames() {
		path := filepath.Join(c.Dir, name+".nk")
		public, made, err := publicKey(path)
		if err != nil {
			return fmt.Errorf("make key %s: %w", path, err)
		}
		state := "there"
		if made {
			state = "made"
		}
		fmt.Fprintf(s.stdout, "key %s: %s\n", path, state)
		fmt.Fprintf(&list, "%s_NKEY=%s\n", strings.ToUpper(strings.ReplaceAll(name, "-", "_")), public)
	}
	path := filepath.Join(c.Dir, "nkeys.env")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		return fmt.Errorf("list public keys: %w", err)
	}
	fmt.Fprintf(s.stdout, "public keys: %s\n", path)
	return nil
}

// publicKey reads the seed at path, or makes one, and answers its public key.
func publicKey(path string) (public string, made bool, err error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		seed, err = makeSeed(path)
	}
	if err != nil {
		return "", false, err
	}
	pair, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return "", false, fmt.Errorf("read seed: %w", err)
	}
	public, err = pair.PublicKey()
	return public, made, err
}

// makeSeed makes a seed of a user, in a file that was not there.
func makeSeed(path string) ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(append(seed, '\n'))
	return seed, errors.Join(err, f.Close())
}
