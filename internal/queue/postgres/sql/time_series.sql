-- The classes of durations are those of store.TimeSteps. A delivery without a duration is in the lowest one. An endpoint of NULL stands for
-- all. An id is never older than the time of receipt, so @first bounds the search. It may be newer, after the clock was set back.
SELECT (d.received - @from::bigint) / @step::bigint, d.state, count(*), count(d.duration), coalesce(max(d.duration), 0)
FROM hubhook.delivery d
WHERE d.id >= @first AND d.received >= @from AND d.received < @to AND (@endpoint::bigint IS NULL OR d.endpoint = @endpoint)
GROUP BY 1, 2, floor(ln(greatest(d.duration, @finest::bigint)::float8 / @finest) * @classes_per_e::float8)
