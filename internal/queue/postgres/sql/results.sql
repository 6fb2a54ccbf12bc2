-- The rows that this process's last commit returned.
SELECT r.* FROM hubhook.writer w, LATERAL hubhook.rows_1(w.kinds, w.places, w.ids, w.ats) r
WHERE w.process = @process AND w.kinds IS NOT NULL
