0::bigint, 0::bigint, 0::bigint,
	d.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions,
	d.duplicates, d.replays, d.synthetic, d.started, d.duration, d.run_at, d.replay_of,
	d.merged_into, d.scope, d.action, d.repo_type, d.repo_name, d.webhook_id, d.reason,
	d.burst
