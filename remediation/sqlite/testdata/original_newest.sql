CREATE TABLE servers (
	id VARCHAR(100) NOT NULL, 
	guid VARCHAR(36), 
	hostname VARCHAR(255) NOT NULL, 
	display_name VARCHAR(255), 
	ip_address VARCHAR(45), 
	status VARCHAR(20) NOT NULL, 
	tdp_watts INTEGER, 
	filesystems JSON, 
	is_paused BOOLEAN NOT NULL, 
	paused_at DATETIME, 
	is_inactive BOOLEAN NOT NULL, 
	last_seen DATETIME, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	PRIMARY KEY (id)
);

CREATE UNIQUE INDEX ix_servers_guid ON servers (guid);

CREATE TABLE alerts (
	id INTEGER NOT NULL, 
	server_id VARCHAR(100) NOT NULL, 
	alert_type VARCHAR(20) NOT NULL, 
	severity VARCHAR(20) NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	title VARCHAR(255) NOT NULL, 
	message TEXT, 
	threshold_value FLOAT, 
	actual_value FLOAT, 
	acknowledged_at DATETIME, 
	resolved_at DATETIME, 
	auto_resolved BOOLEAN NOT NULL, 
	created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(server_id) REFERENCES servers (id) ON DELETE CASCADE
);

CREATE INDEX ix_alerts_server_id ON alerts (server_id);

CREATE INDEX idx_alerts_created_at ON alerts (created_at);

CREATE INDEX idx_alerts_server_status ON alerts (server_id, status);

CREATE INDEX idx_alerts_severity_status ON alerts (severity, status);

CREATE TABLE remediation_actions (
	id INTEGER NOT NULL, 
	server_id VARCHAR(100) NOT NULL, 
	action_type VARCHAR(50) NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	service_name VARCHAR(255), 
	command TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(50) NOT NULL, 
	alert_id INTEGER, 
	approved_at DATETIME, 
	approved_by VARCHAR(50), 
	rejected_at DATETIME, 
	rejected_by VARCHAR(50), 
	rejection_reason TEXT, 
	executed_at DATETIME, 
	completed_at DATETIME, 
	exit_code INTEGER, 
	stdout TEXT, 
	stderr TEXT, 
	timeout_seconds INTEGER, 
	timed_out_at DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(server_id) REFERENCES servers (id) ON DELETE CASCADE, 
	FOREIGN KEY(alert_id) REFERENCES alerts (id) ON DELETE SET NULL
);

CREATE INDEX ix_remediation_actions_server_id ON remediation_actions (server_id);

CREATE INDEX idx_remediation_actions_server_status ON remediation_actions (server_id, status);

CREATE INDEX idx_remediation_actions_status ON remediation_actions (status);
