package remediation

import (
	"context"
	"fmt"
	"time"
)

// Server is a server with its mode and its settings. It is in normal mode or in maintenance (paused).
type Server struct {
	ID                  string     `json:"id"`
	Paused              bool       `json:"paused"`                // in maintenance
	PausedAt            *time.Time `json:"paused_at,omitempty"`   // since when; nil if not paused or unknown
	ForbidsSelfApproval bool       `json:"forbids_self_approval"` // see ForbidSelfApproval
}

// AddServer adds a server in normal mode. It is a no-op if the server exists, even if another program added it. The id
// has 1 to 100 characters, otherwise the error is an *InputError.
func (l *Ledger) AddServer(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("add server: %w", err)
	}
	if err := l.store.AddServer(ctx, id); err != nil {
		return fmt.Errorf("add server %q: %w", id, err)
	}
	return nil
}

// Pause puts a server into maintenance. New actions wait for a person (criterion AC3), and Claim and Start do not run
// an action that only "auto" approved. Executing actions are unaffected. Pause is a no-op on a paused server: its
// PausedAt stays.
//
// ErrServerNotFound if the server doesn't exist. A concurrent Create, Claim or Start sees the server either before or
// after the Pause.
func (l *Ledger) Pause(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("pause server: %w", err)
	}
	now, err := l.now()
	if err == nil {
		err = l.store.PauseServer(ctx, id, now)
	}
	if err != nil {
		return fmt.Errorf("pause server %q: %w", id, err)
	}
	return nil
}

// Unpause ends the maintenance of a server. It is a no-op on a server in normal mode. Pending actions stay pending:
// they were created during the maintenance, and a person still has to decide them.
//
// ErrServerNotFound if the server doesn't exist.
func (l *Ledger) Unpause(ctx context.Context, id string) error {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return fmt.Errorf("unpause server: %w", err)
	}
	if err := l.store.UnpauseServer(ctx, id); err != nil {
		return fmt.Errorf("unpause server %q: %w", id, err)
	}
	return nil
}

// AddAlert adds an alert of a server and returns its id, for NewAction.AlertID. The title has 1 to 255 characters,
// otherwise the error is an *InputError. ErrServerNotFound if the server doesn't exist.
func (l *Ledger) AddAlert(ctx context.Context, serverID, title string) (int64, error) {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return 0, fmt.Errorf("add alert: %w", err)
	}
	if err := checkTitle("title", title, maxTitle); err != nil {
		return 0, fmt.Errorf("add alert: %w", err)
	}
	id, err := l.store.AddAlert(ctx, serverID, title)
	if err != nil {
		return 0, fmt.Errorf("add alert to server %q: %w", serverID, err)
	}
	return id, nil
}

// ForbidSelfApproval sets whether a person may approve an action of this server that they created. If forbid is true,
// Approve returns a *TransitionError with ReasonSelfApproval when by equals the action's CreatedBy exactly. The setting
// does not change earlier decisions. In normal mode actions are still approved automatically.
//
// ErrServerNotFound if the server doesn't exist.
func (l *Ledger) ForbidSelfApproval(ctx context.Context, serverID string, forbid bool) error {
	if err := checkName("server_id", serverID, maxServerID); err != nil {
		return fmt.Errorf("forbid self-approval: %w", err)
	}
	if err := l.store.ForbidSelfApproval(ctx, serverID, forbid); err != nil {
		return fmt.Errorf("forbid self-approval on server %q: %w", serverID, err)
	}
	return nil
}

// Server returns one server with its mode and its settings, or ErrServerNotFound.
func (l *Ledger) Server(ctx context.Context, id string) (Server, error) {
	if err := checkName("server_id", id, maxServerID); err != nil {
		return Server{}, fmt.Errorf("get server: %w", err)
	}
	s, err := l.store.GetServer(ctx, id)
	if err != nil {
		return Server{}, fmt.Errorf("get server %q: %w", id, err)
	}
	return s.utc(), nil
}

// Servers returns up to limit servers whose ids come after the id after, in the order of their ids. Start with "", and
// pass the last id of a page to get the next page.
func (l *Ledger) Servers(ctx context.Context, after string, limit int) ([]Server, error) {
	limit, err := checkLimit(limit)
	if err == nil && after != "" {
		err = checkName("after", after, maxServerID)
	}
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	servers, err := l.store.ListServers(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	for i, s := range servers {
		servers[i] = s.utc()
	}
	return servers, nil
}

// utc converts PausedAt to UTC: a driver may return it in another time zone.
func (s Server) utc() Server {
	if s.PausedAt != nil {
		*s.PausedAt = s.PausedAt.UTC()
	}
	return s
}
