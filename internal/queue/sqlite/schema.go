package sqlite

// migrations take a database from one version of the schema to the next. PRAGMA user_version is how many were applied. Existing entries
// never change: a change of the schema is a new entry at the end.
var migrations = []string{
	// Lists read deliveries by the thousand, so their rows are narrow, and content has its own table.
	//
	// delivery.id is the first 63 bits of the ULID. run_at is in Unix nanoseconds. It is set when a delivery has to wait, and stays
	// until the delivery is finished. A delivery that runs at once and succeeds therefore never enters an index.
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

	// serial is the hash of a serial key. debounce is the hash of a burst's key, as long as a later arrival can still be merged with the
	// delivery. burst is the id of the burst's first delivery; all deliveries of the burst keep it.
	`
ALTER TABLE delivery ADD COLUMN serial INTEGER;
ALTER TABLE delivery ADD COLUMN debounce INTEGER;
ALTER TABLE delivery ADD COLUMN burst INTEGER;
CREATE INDEX delivery_debounce ON delivery (endpoint, debounce) WHERE debounce IS NOT NULL;
CREATE INDEX delivery_burst ON delivery (burst) WHERE burst IS NOT NULL;
`,

	// An index of a table with rowids would look to salvage like the index of endpoint, so mark has none.
	`
CREATE TABLE mark (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
`,
}
