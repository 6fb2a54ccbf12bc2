SELECT key, version, value FROM hubhook.mark WHERE starts_with(key, @prefix) ORDER BY key
