DROP TABLE alerts;
DROP TABLE servers;
