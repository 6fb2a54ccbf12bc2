-- Lists read deliveries by the thousand, so their rows are narrow. No index has a column that changes when a delivery runs and succeeds.
-- Such an update stays within its page and touches no index. Unfinished deliveries are found in a table of their own, which is as small as
-- the backlog.
--
-- Times are Unix nanoseconds of this server's clock. An endpoint and a key are the hashes of their text. Text that PostgreSQL would refuse
-- is escaped.

CREATE TABLE hubhook.endpoint (id bigint PRIMARY KEY, name text NOT NULL);

CREATE TABLE hubhook.delivery (
	id            uuid PRIMARY KEY,
	endpoint      bigint NOT NULL,
	received      bigint NOT NULL,
	started       bigint,
	duration      bigint,
	run_at        bigint, -- while it is retrying
	token         bigint, -- the claim that was running when it was discarded
	replay_of     uuid,
	merged_into   uuid,
	burst         uuid, -- the first delivery of its burst
	state         smallint NOT NULL,
	unusual       smallint, -- the state, if it is dead or one after it; otherwise NULL
	synthetic     boolean NOT NULL,
	attempts      integer NOT NULL,
	failures      integer NOT NULL DEFAULT 0,
	interruptions integer NOT NULL DEFAULT 0,
	duplicates    integer NOT NULL DEFAULT 0,
	replays       integer NOT NULL DEFAULT 0,
	scope         text,
	action        text,
	repo_type     text,
	repo_name     text,
	webhook_id    text,
	reason        text
) WITH (fillfactor = 75);
CREATE INDEX delivery_unusual ON hubhook.delivery (unusual, id) WHERE unusual IS NOT NULL;
CREATE INDEX delivery_burst ON hubhook.delivery (burst) WHERE burst IS NOT NULL;

CREATE TABLE hubhook.content (id uuid PRIMARY KEY, header bytea, body bytea, encoding smallint NOT NULL);
-- Large bodies are compressed already.
ALTER TABLE hubhook.content ALTER COLUMN header SET STORAGE EXTERNAL, ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE hubhook.attempt (
	delivery uuid NOT NULL,
	n        integer NOT NULL,
	started  bigint NOT NULL,
	duration bigint NOT NULL,
	error    text,
	stack    text,
	output   bytea,
	result   bytea,
	PRIMARY KEY (delivery, n)
);

-- Deliveries that are not finished. serial is 0 without a serial key. lease is when a claim ends unless its owner renews it.
CREATE TABLE hubhook.unfinished (
	id       uuid PRIMARY KEY,
	endpoint bigint NOT NULL,
	serial   bigint NOT NULL,
	run_at   bigint NOT NULL,
	token    bigint,
	lease    bigint,
	burst    uuid,
	state    smallint NOT NULL,
	suspect  boolean NOT NULL, -- interrupted so often that it is started alone
	started  boolean NOT NULL  -- at least once
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.1);
CREATE INDEX unfinished_due ON hubhook.unfinished (endpoint, suspect, run_at, id) WHERE state <> {running} AND serial = 0;
CREATE INDEX unfinished_serial ON hubhook.unfinished (endpoint, serial, run_at, id) WHERE state <> {running} AND serial <> 0;
CREATE INDEX unfinished_held ON hubhook.unfinished (endpoint, serial) WHERE state = {running} AND serial <> 0;
CREATE INDEX unfinished_waiting ON hubhook.unfinished (endpoint, id) WHERE state = {waiting};
CREATE INDEX unfinished_suspect ON hubhook.unfinished (endpoint, run_at) WHERE suspect AND state <> {running} AND serial = 0;
CREATE INDEX unfinished_lease ON hubhook.unfinished (lease) WHERE state = {running};
CREATE INDEX unfinished_burst ON hubhook.unfinished (burst) WHERE burst IS NOT NULL;

-- One row for each serial key: whether a delivery with it runs, and when the first that waits is due. So finding work takes as long with
-- a thousand deliveries of one key as with one delivery of each of a thousand keys.
CREATE TABLE hubhook.series (
	endpoint bigint NOT NULL,
	key      bigint NOT NULL,
	held     boolean NOT NULL,
	suspect  boolean NOT NULL,
	run_at   bigint, -- NULL if none waits
	PRIMARY KEY (endpoint, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX series_due ON hubhook.series (endpoint, suspect, run_at) WHERE NOT held AND run_at IS NOT NULL;
CREATE INDEX series_suspect ON hubhook.series (endpoint, run_at) WHERE suspect AND NOT held;

-- The last delivery of each burst.
CREATE TABLE hubhook.burst (
	endpoint bigint NOT NULL,
	key      bigint NOT NULL,
	last     uuid,
	burst    uuid,
	received bigint, -- when the first delivery of the burst was received
	PRIMARY KEY (endpoint, key)
) WITH (fillfactor = 70);

-- The delivery that later ones with the same Webhook-Id are duplicates of, by a hash of endpoint and Webhook-Id. A row stays only as long as
-- it may be needed. An index over the Webhook-Ids of all deliveries would write random pages.
CREATE TABLE hubhook.webhook (hash uuid PRIMARY KEY, delivery uuid NOT NULL, keep bigint NOT NULL);
CREATE INDEX webhook_keep ON hubhook.webhook (keep);

-- The number of deliveries is the sum over slots. Each process writes its own slots, so none waits for the commit of another.
CREATE TABLE hubhook.tally (
	endpoint bigint NOT NULL,
	state    smallint NOT NULL,
	slot     integer NOT NULL,
	n        bigint NOT NULL,
	PRIMARY KEY (endpoint, state, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE hubhook.process (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seen bigint NOT NULL) WITH (fillfactor = 30);

-- The last batch of each process. Each new connection that stores raises epoch. It waits for a commit of an earlier connection that is
-- still running, and commits with an earlier epoch are refused. The arrays are the results of the batch.
CREATE TABLE hubhook.writer (
	process integer PRIMARY KEY,
	epoch   bigint NOT NULL,
	batch   bigint NOT NULL,
	kinds   bigint[],
	places  bigint[],
	ids     uuid[],
	ats     bigint[]
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
