package remediation

import (
	"encoding/json"
	"errors"
)

// errorJSON is an error in JSON: its text, and the fields that let a program decide what to do.
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

// asJSON returns the text of err, with the fields of the errors that it wraps.
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

// MarshalJSON returns {"error": "<sentence>", "id": 7, "from": "rejected", "to": "approved"}, with "why" if Why is set.
func (e *TransitionError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON returns {"error": "command is empty", "field": "command", "problem": "is empty"}.
func (e *InputError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON returns {"error": "<sentence>", "existing_id": 7}.
func (e *DuplicateError) MarshalJSON() ([]byte, error) { return json.Marshal(asJSON(e)) }

// MarshalJSON returns {"id": 7, "action": {…}} or, if Err is not nil, {"id": 7, "error": {…}}. The error has the text
// of Err and the fields of the error that Err wraps, as in the JSON of that error.
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
