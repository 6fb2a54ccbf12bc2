SELECT endpoint, state, sum(n)::bigint FROM hubhook.tally GROUP BY 1, 2 HAVING sum(n) <> 0
