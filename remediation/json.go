package remediation

import (
	"encoding/json"
	"errors"
)

// errorJSON is an error as JSON: its sentence, and what a program needs to decide.
type errorJSON struct {
	Error      string `json:"error"`
	ID         *int64 `json:"id,omitempty"`
	From       Status `json:"from,omitempty"`
	To         Status `json:"to,omitempty"`
	Why        Reason `json:"why,omitempty"`
	Field      string `json:"field,omitempty"`
	Problem    string `json:"problem,omitempty"`
	ExistingID *int64 `json:"existing_id,omitempty"`
}

// asJSON finds the details in what err wraps; its sentence is the whole one.
func asJSON(err error) errorJSON {
	j := errorJSON{Error: err.Error()}
	if e, ok := errors.AsType[*TransitionError](err); ok {
		j.ID, j.From, j.To, j.Why = &e.ID, e.From, e.To, e.Why
	}
	if e, ok := errors.AsType[*InputError](err); ok {
		j.Field, j.Problem = e.Field, e.Problem
	}
	if e, ok := errors.AsType[*DuplicateError](err); ok {
		j.ExistingID = &e.ExistingID
	}
	return j
}

// MarshalJSON gives {"error": "<sentence>", "id": 7, "from": "rejected", "to": "approved"}, and "why"
// if the action is held.
func (e *TransitionError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON gives {"error": "command is empty", "field": "command", "problem": "is empty"}.
func (e *InputError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON gives {"error": "<sentence>", "existing_id": 7}.
func (e *DuplicateError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON gives {"id": 7, "action": {…}}, or {"id": 7, "error": {…}} with the details of the error that Err wraps, as
// that error itself gives them, and the sentence of Err.
func (o Outcome) MarshalJSON() ([]byte, error) {
	if o.Err != nil {
		return json.Marshal(struct {
			ID    int64     `json:"id"`
			Error errorJSON `json:"error"`
		}{o.ID, asJSON(o.Err)})
	}
	return json.Marshal(struct {
		ID     int64  `json:"id"`
		Action Action `json:"action"`
	}{o.ID, o.Action})
}
