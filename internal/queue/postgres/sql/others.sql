-- Processes that were seen in the last 30 seconds.
SELECT count(*) FROM hubhook.process WHERE id <> @process AND seen > hubhook.now_1() - 30000000000
