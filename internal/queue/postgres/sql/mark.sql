SELECT hubhook.mark_2($1, $2, $3)
