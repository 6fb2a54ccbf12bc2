VACUUM (SKIP_LOCKED, TRUNCATE false) hubhook.unfinished
