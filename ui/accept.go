package ui

import (
	"strconv"
	"strings"
)

// prefersJSON reports whether Accept wants application/json rather than text/html: it has the higher quality, or the same and is
// named more exactly. Without a preference people get the page.
func prefersJSON(accept []string) bool {
	jsonQuality, jsonRank := acceptable(accept, "application", "json")
	htmlQuality, htmlRank := acceptable(accept, "text", "html")
	if jsonQuality != htmlQuality {
		return jsonQuality > htmlQuality
	}
	return jsonQuality > 0 && jsonRank > htmlRank
}

// acceptable returns the quality of a media type and how exactly it was named: 0 not at all, 1 as */*, 2 as type/*, 3 in full. The
// most exact range counts (RFC 9110, section 12.5.1).
func acceptable(accept []string, kind, subtype string) (quality float64, rank int) {
	for _, header := range accept {
		for one := range strings.SplitSeq(header, ",") {
			media, params, _ := strings.Cut(one, ";")
			k, s, _ := strings.Cut(strings.ToLower(strings.TrimSpace(media)), "/")
			r := 0
			switch {
			case k == kind && s == subtype:
				r = 3
			case k == kind && s == "*":
				r = 2
			case k == "*" && s == "*":
				r = 1
			}
			if q := qualityOf(params); r > rank || r == rank && r > 0 && q > quality {
				quality, rank = q, r
			}
		}
	}
	return quality, rank
}

func qualityOf(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(p, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0 // what can't be read is no wish
		}
		return q
	}
	return 1
}
