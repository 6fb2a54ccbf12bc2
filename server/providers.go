package server

import (
	"maps"

	"github.com/hubhook/hubhook/tunnel"

	// The providers that --tunnel can name. Each registers itself.
	_ "github.com/hubhook/hubhook/tunnel/cloudflared"
	_ "github.com/hubhook/hubhook/tunnel/ngrok"
	_ "github.com/hubhook/hubhook/tunnel/ssh"
)

// providerSettings describes the flags that single providers have.
func providerSettings() []*setting {
	var list []*setting
	for _, provider := range tunnel.Registered() {
		for _, f := range provider.Flags {
			field, _ := new(Config).providerField(f.Name)
			list = append(list, &setting{name: f.Name, field: field, help: f.Usage, in: func(c *Config) value { return c.providerValue(f.Name) }})
		}
	}
	return list
}

// providerField returns the field of c that a provider's flag sets, with its name, or nil: a program that needs a setting without a field
// makes the provider itself, for Config.Provider.
func (c *Config) providerField(flag string) (name string, field *string) {
	switch flag {
	case "ngrok-authtoken":
		return "NgrokAuthtoken", &c.NgrokAuthtoken
	case "ngrok-config":
		return "NgrokConfig", &c.NgrokConfig
	case "ssh":
		return "SSH", &c.SSH
	case "ssh-key":
		return "SSHKey", &c.SSHKey
	case "ssh-forward":
		return "SSHForward", &c.SSHForward
	case "cloudflared-config":
		return "CloudflaredConfig", &c.CloudflaredConfig
	}
	return "", nil
}

func (c *Config) providerValue(flag string) value {
	if _, field := c.providerField(flag); field != nil {
		return textIn(field)
	}
	return value{isSet: c.provider[flag] != "", set: func(text string) error {
		values := maps.Clone(c.provider) // copies of c share the map
		if values == nil {
			values = map[string]string{}
		}
		values[flag] = text
		c.provider = values
		return nil
	}}
}

// providerSetting returns what a provider's flag was set to, and where.
func (s *settings) providerSetting(flag string) (value, place string) {
	if _, field := s.providerField(flag); field != nil {
		return *field, s.places[flag]
	}
	return s.provider[flag], s.places[flag]
}

// getenv is Getenv for callers that treat an unset variable as an empty one.
func (s *settings) getenv(name string) string {
	value, _ := s.Getenv(name)
	return value
}

// chooseTunnel takes the provider that a flag of its own chooses, where none is named.
func (s *settings) chooseTunnel() {
	if s.places["tunnel"] != "" {
		return
	}
	for _, provider := range tunnel.Registered() {
		for _, f := range provider.Flags {
			if value, _ := s.providerSetting(f.Name); f.Chooses && value != "" {
				s.Tunnel = provider.Name
				return
			}
		}
	}
}

// providerNames are the words that --tunnel can be given, the default first.
func providerNames() []string {
	var names []string
	for _, p := range tunnel.Registered() {
		names = append(names, p.Name)
	}
	return names
}
