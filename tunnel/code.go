package tunnel

// Code returns the one of ngrok's error codes in text that matters most, "ERR_NGROK_3200" for example, or the empty string.
func Code(text string) string { return codeIn(text) }
