package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/waybill-go/waybill/runtime/deadletter"
)

type lettersEdit struct {
	who
	ID     string `arg:"" help:"The letter's id, or at least 8 of its first characters."`
	Data   string `help:"A file with the new body, - for standard input; the editor that EDITOR names if left out."`
	Reason string `help:"Why."`
}

// Help is shown by deadletters edit --help.
func (lettersEdit) Help() string {
	return "The event itself stays as it is stored; its function gets the new body, once it is replayed.\n\nExample:\n\n  $ " +
		commandName() + " deadletters edit 1b4e28ba --data body.json"
}

// Run changes the body of a dead letter.
func (c lettersEdit) Run(ctx context.Context, s *session, client *Client) error {
	nc, l, err := showLetter(ctx, client, c.ID)
	if err != nil {
		return err
	}
	var data []byte
	switch c.Data {
	case "":
		data, err = s.edit(ctx, bodyOf(l))
	case "-":
		data, err = io.ReadAll(os.Stdin)
	default:
		data, err = os.ReadFile(c.Data)
	}
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if err := checkJSON(data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	request := deadletter.EditRequest{ID: l.ID, Data: data, Version: l.Version, By: c.name(), Reason: c.Reason}
	if err := ask(ctx, nc, deadletter.SubjectEdit, request, &l, askTimeout); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is edited; now: %s deadletters replay %s\n", l.ID, commandName(), l.ID)
	return nil
}

func checkJSON(data []byte) error {
	err := json.Unmarshal(data, new(json.RawMessage))
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("is not valid JSON at byte %d: %w", at.Offset, err)
	}
	return err
}

// edit has the user change a text in their editor. What is no JSON then is kept
// in its file, and the error names that.
func (s *session) edit(ctx context.Context, text string) (data []byte, err error) {
	f, err := os.CreateTemp("", "deadletter-*.json")
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	editor := []string{"vi"}
	for _, name := range []string{"EDITOR", "VISUAL"} { // the last that is set
		if v, ok := s.lookup(name); ok && strings.TrimSpace(v) != "" {
			editor = strings.Fields(v)
		}
	}
	command := exec.CommandContext(ctx, editor[0], append(editor[1:], f.Name())...) //nolint:gosec // the user's own editor
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("run the editor %q: %w", editor[0], err), os.Remove(f.Name()))
	}
	if data, err = os.ReadFile(f.Name()); err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(data)) == strings.TrimSpace(text) {
		return nil, errors.Join(errors.New("nothing was changed"), os.Remove(f.Name()))
	}
	if err := checkJSON(data); err != nil {
		return nil, fmt.Errorf("what you wrote, in %s, %w", f.Name(), err)
	}
	return data, os.Remove(f.Name())
}
