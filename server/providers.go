package server

import (
	"github.com/hubhook/hubhook/tunnel"

	// The providers that --tunnel can name. Each registers itself.
	_ "github.com/hubhook/hubhook/tunnel/ngrok"
)

// providerField returns the field of c that a provider's flag sets, and how error texts name it. It returns nil for a flag without a field:
// a program that needs such a setting makes the provider itself, for Config.Provider.
func (c *Config) providerField(flag string) (name string, field *string) {
	switch flag {
	case "ngrok-authtoken":
		return "Config.NgrokAuthtoken", &c.NgrokAuthtoken
	case "ngrok-config":
		return "Config.NgrokConfig", &c.NgrokConfig
	}
	return "", nil
}

// providerFlags defines the flags that single providers have. text defines one.
func (c *Config) providerFlags(text func(field *string, name, usage string)) {
	for _, provider := range tunnel.Registered() {
		for _, f := range provider.Flags {
			_, field := c.providerField(f.Name)
			if field == nil {
				if c.provider == nil {
					c.provider = map[string]*string{}
				}
				field = new(string)
				c.provider[f.Name] = field
			}
			text(field, f.Name, f.Usage)
		}
	}
}

// providerSetting returns what a provider's flag was set to, and where: by the flag, by the field, or by its variable.
func (c *Config) providerSetting(name string) (value, source string) {
	source, field := c.providerField(name)
	if field == nil {
		field = c.provider[name]
	}
	switch {
	case c.given[name]:
		return *field, "--" + name
	case field != nil && *field != "":
		return *field, source
	}
	if value = c.getenv(Variable(name)); value != "" {
		return value, Variable(name)
	}
	return "", ""
}

// getenv is Getenv for those who take an unset variable for an empty one.
func (c *Config) getenv(name string) string {
	value, _ := c.Getenv(name)
	return value
}

// providerNames are the words that --tunnel can be given, the default first.
func providerNames() []string {
	var names []string
	for _, p := range tunnel.Registered() {
		names = append(names, p.Name)
	}
	return names
}
