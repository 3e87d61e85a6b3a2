DROP TABLE remediation_actions;
