SELECT n, started, duration, coalesce(error, ''), coalesce(stack, ''), output, result
FROM hubhook.attempt WHERE delivery = @delivery ORDER BY n
