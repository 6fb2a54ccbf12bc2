-- Deliveries are narrow rows, since lists read them by the thousand. No index has a column that changes when a delivery runs and
-- succeeds: such an update stays within its page and touches no index. What must be found by its state is in the table unfinished,
-- which is as small as the work that is left.
--
-- Times are Unix nanoseconds of this server's clock. Numbers that stand for texts are hashes. A text that PostgreSQL would refuse is
-- escaped.

CREATE TABLE hubhook.endpoint (id bigint PRIMARY KEY, name text NOT NULL);

CREATE TABLE hubhook.delivery (
	id            uuid PRIMARY KEY,
	endpoint      bigint NOT NULL,
	received      bigint NOT NULL,
	started       bigint,
	duration      bigint,
	run_at        bigint, -- while it is retrying
	token         bigint, -- of the claim that ran when it was discarded
	replay_of     uuid,
	merged_into   uuid,
	burst         uuid, -- the first delivery of its burst
	state         smallint NOT NULL,
	unusual       smallint, -- the state, from dead on
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
-- Large bodies come compressed.
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

-- What is still to be done. serial is 0 for none; lease ends a claim that nobody renews.
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

-- One row for each serial key: whether one with it runs, and the first of those that wait, so that finding work takes as
-- long with one waiting delivery for each key as with all of them for one.
CREATE TABLE hubhook.series (
	endpoint bigint NOT NULL,
	key      bigint NOT NULL,
	held     boolean NOT NULL,
	suspect  boolean NOT NULL,
	run_at   bigint, -- NULL: none waits
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
	received bigint, -- when the burst's first one was
	PRIMARY KEY (endpoint, key)
) WITH (fillfactor = 70);

-- The delivery that one with the same Webhook-Id is a duplicate of, by a hash of endpoint and Webhook-Id. It is kept apart
-- and for as long as it may be needed: an index over all deliveries' would be written at random pages.
CREATE TABLE hubhook.webhook (hash uuid PRIMARY KEY, delivery uuid NOT NULL, keep bigint NOT NULL);
CREATE INDEX webhook_keep ON hubhook.webhook (keep);

-- How many deliveries there are, as the sum over slots. Each process writes to slots of its own, so that none waits for
-- another one's commit.
CREATE TABLE hubhook.tally (
	endpoint bigint NOT NULL,
	state    smallint NOT NULL,
	slot     integer NOT NULL,
	n        bigint NOT NULL,
	PRIMARY KEY (endpoint, state, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE hubhook.process (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seen bigint NOT NULL) WITH (fillfactor = 30);

-- What a process last stored. epoch grows with each of its connections that stores: a commit of an earlier one that is
-- still under way somewhere is waited for, or refused. The arrays are what the batch's commit returned.
CREATE TABLE hubhook.writer (
	process integer PRIMARY KEY,
	epoch   bigint NOT NULL,
	batch   bigint NOT NULL,
	kinds   bigint[],
	places  bigint[],
	ids     uuid[],
	ats     bigint[]
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
