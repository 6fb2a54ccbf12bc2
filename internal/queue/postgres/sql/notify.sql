SELECT pg_notify(@channel, line) FROM unnest(@lines::text[]) AS l (line)
