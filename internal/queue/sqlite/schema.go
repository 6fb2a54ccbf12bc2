package sqlite

// migrations bring a database from one version of the schema to the next; PRAGMA user_version says how many it has had.
// What is here stays as it is: a change of the schema is a new entry at the end.
var migrations = []string{
	// Deliveries are narrow rows, since lists read them by the thousand; content has a table of its own.
	//
	// deliveries.id is the first 63 bits of the delivery's id. run_at, in Unix nanoseconds, is set from when a delivery has
	// to wait until it is finished, so that one that runs at once and succeeds never enters an index.
	`
CREATE TABLE endpoint (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE delivery (
	id            INTEGER PRIMARY KEY,
	endpoint      INTEGER NOT NULL REFERENCES endpoint,
	state         INTEGER NOT NULL,
	received      INTEGER NOT NULL,
	attempts      INTEGER NOT NULL DEFAULT 0,
	failures      INTEGER NOT NULL DEFAULT 0,
	interruptions INTEGER NOT NULL DEFAULT 0,
	duplicates    INTEGER NOT NULL DEFAULT 0,
	replays       INTEGER NOT NULL DEFAULT 0,
	synthetic     INTEGER NOT NULL DEFAULT 0,
	started       INTEGER,
	duration      INTEGER,
	run_at        INTEGER,
	replay_of     INTEGER,
	merged_into   INTEGER,
	scope         TEXT,
	action        TEXT,
	repo_type     TEXT,
	repo_name     TEXT,
	webhook_id    TEXT,
	reason        TEXT
);
CREATE INDEX delivery_due ON delivery (endpoint, run_at, id) WHERE run_at IS NOT NULL;
CREATE INDEX delivery_unusual ON delivery (state, id) WHERE state >= 4;
CREATE TABLE content (id INTEGER PRIMARY KEY, header BLOB, body BLOB, encoding INTEGER NOT NULL);
CREATE TABLE attempt (
	delivery INTEGER NOT NULL,
	n        INTEGER NOT NULL,
	started  INTEGER NOT NULL,
	duration INTEGER NOT NULL,
	error    TEXT,
	stack    TEXT,
	output   BLOB,
	result   BLOB,
	PRIMARY KEY (delivery, n)
) WITHOUT ROWID;
CREATE TABLE summary (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
`,

	// serial stands for a serial key. debounce stands for the key of a burst as long as a later one can be merged with it; burst is
	// the id of the burst's first delivery, and stays with all of it.
	`
ALTER TABLE delivery ADD COLUMN serial INTEGER;
ALTER TABLE delivery ADD COLUMN debounce INTEGER;
ALTER TABLE delivery ADD COLUMN burst INTEGER;
CREATE INDEX delivery_debounce ON delivery (endpoint, debounce) WHERE debounce IS NOT NULL;
CREATE INDEX delivery_burst ON delivery (burst) WHERE burst IS NOT NULL;
`,
}
