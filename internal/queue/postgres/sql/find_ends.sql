-- Start and duration, in nanoseconds, tell an attempt from one of another process.
SELECT e.place FROM unnest(@ids::uuid[], @numbers::bigint[], @started::bigint[], @durations::bigint[])
	WITH ORDINALITY AS e (id, n, started, duration, place)
WHERE EXISTS (SELECT FROM hubhook.delivery d WHERE d.id = e.id AND d.state <> {running} AND d.started = e.started AND d.duration = e.duration)
	OR EXISTS (SELECT FROM hubhook.attempt a WHERE a.delivery = e.id AND a.n = e.n AND a.started = e.started AND a.duration = e.duration)
