-- A stalled server runs queued statements when it resumes, before any owner can renew its lease. So a claim that runs late takes over
-- nothing.
SELECT * FROM hubhook.claim_4(
	my_process => @process,
	take_over => @take_over AND hubhook.now_1() < @take_over_until,
	alone_after => @alone_after, dead_after => @dead_after, died => @died, interrupted => @interrupted,
	want_endpoint => @endpoints, want_n => @numbers, want_suspects => @suspects,
	first_token => @first_token, lease_for => @lease)
