package tunnel

// Code returns the first of ngrok's error codes in text, "ERR_NGROK_3200" for example, or the empty string.
func Code(text string) string { return codeIn(text) }
