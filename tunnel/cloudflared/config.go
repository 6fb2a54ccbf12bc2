package cloudflared

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/hubhook/hubhook/internal/env"
	"github.com/hubhook/hubhook/tunnel"
)

// settings are a Config in which everything is decided.
type settings struct {
	program string // its path
	file    string // of a named tunnel, "" for a quick one
	url     string // of a named tunnel
	listen  string // the address that the program forwards to; its port is 0 where any will do
	ingress bool   // file says where the program forwards to
	shadow  bool   // the program would find a configuration of its own, which gets in the way of a quick tunnel
	hide    redactor
}

func (s settings) quick() bool { return s.file == "" }

// settings reads what there is to read. Its errors are final.
func (c Config) settings() (settings, error) {
	s := settings{file: c.ConfigFile, listen: "127.0.0.1:0"}
	var err error
	if s.program, err = c.lookUp(); err != nil {
		return s, err
	}
	if s.url, err = publicURL(c.URL); err != nil {
		return s, err
	}
	s.hide = newRedactor(c.Getenv(env.TunnelToken))
	if s.quick() {
		if s.url != "" {
			return s, settingError("open a tunnel at "+s.url, "cloudflared without a configuration opens a quick tunnel, whose name Cloudflare chooses",
				"leave --url out, or name a tunnel of your account with --cloudflared-config")
		}
		s.shadow = slices.ContainsFunc(ownConfigs(c.Getenv(env.Home)), func(path string) bool {
			_, err := os.Stat(path)
			return err == nil
		})
		return s, nil
	}
	if s.url == "" {
		return s, settingError("open the tunnel of "+c.ConfigFile, "it is not known under which name", "say the name that is routed to this tunnel with --url")
	}
	return s, s.read()
}

// lookUp finds the program.
func (c Config) lookUp() (string, error) {
	path, err := exec.LookPath(c.Program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		cause := "the program " + c.Program + " can't be run: " + err.Error()
		if errors.Is(err, exec.ErrNotFound) {
			cause = "the program " + c.Program + " is not installed: PATH does not lead to it"
		}
		e := settingError("start cloudflared", cause, "install it, see https://developers.cloudflare.com/tunnel/downloads, or choose another tunnel with --tunnel")
		e.Err = err
		return "", e
	}
	return path, nil
}

func settingError(op, cause, fix string) *tunnel.Error {
	return &tunnel.Error{Op: op, Cause: cause, Fix: fix, Final: true}
}

// publicURL makes a URL of what a user may write for it: a URL or a bare domain.
func publicURL(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimSpace(s), "/")
	if s == "" {
		return "", nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", settingError("read the wanted public URL", fmt.Sprintf("%q is not a domain or an https URL without a path", s), "write it as https://hooks.example.com")
	}
	return s, nil
}

// read reads the configuration of a named tunnel.
func (s *settings) read() error {
	op := "read the cloudflared configuration"
	text, err := os.ReadFile(s.file)
	if err != nil {
		return settingError(op, err.Error(), "give the path of a configuration of cloudflared with --cloudflared-config")
	}
	var file struct {
		Tunnel      string `yaml:"tunnel"`
		Credentials string `yaml:"credentials-file"`
		Ingress     []rule `yaml:"ingress"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		place := ""
		if at, ok := errors.AsType[*yaml.LoadError](err); ok && at.Mark.Line > 0 {
			place = fmt.Sprintf(", line %d", at.Mark.Line)
		}
		// The parser's error repeats lines of the file, which may have secrets in them.
		return settingError(op, s.file+place+" can't be read as cloudflared's configuration", "correct the file; cloudflared tunnel --config "+s.file+" ingress validate says more")
	}
	if file.Tunnel == "" {
		return settingError(op, s.file+" names no tunnel", `write "tunnel: NAME" into it, see cloudflared tunnel list`)
	}
	s.hide = s.hide.with(secretOf(file.Credentials))
	if len(file.Ingress) == 0 {
		return nil
	}
	u, err := url.Parse(s.url) // which publicURL has made
	if err != nil {
		return err
	}
	wanted := "write \"service: http://127.0.0.1:PORT\" there with a port that is free for hubhook, or take \"ingress\" out of the file"
	for _, r := range file.Ingress {
		if !r.serves(u.Hostname()) {
			continue
		}
		var ok bool
		if s.listen, ok = r.loopback(); !ok {
			return settingError(op, fmt.Sprintf("the ingress rule for %s in %s leads to %s, which is no HTTP port on loopback", u.Hostname(), s.file, s.hide.line(r.Service)), wanted)
		}
		s.ingress = true
		return nil
	}
	return settingError(op, fmt.Sprintf("no ingress rule of %s serves %s", s.file, s.url), "add a rule for it: "+wanted)
}

// rule is one of cloudflared's ingress rules. The first that serves a request counts.
type rule struct {
	Hostname string `yaml:"hostname"`
	Path     string `yaml:"path"`
	Service  string `yaml:"service"`
}

// serves reports whether the rule takes deliveries to host.
func (r rule) serves(host string) bool {
	if r.Path != "" {
		path, err := regexp.Compile(r.Path)
		if err != nil || !path.MatchString("/webhooks/") {
			return false
		}
	}
	if rest, wild := strings.CutPrefix(r.Hostname, "*."); wild {
		_, parent, _ := strings.Cut(host, ".")
		return strings.EqualFold(parent, rest)
	}
	return r.Hostname == "" || r.Hostname == "*" || strings.EqualFold(r.Hostname, host)
}

// loopback returns the address on loopback that the rule leads to.
func (r rule) loopback() (addr string, ok bool) {
	u, err := url.Parse(r.Service)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.Port() == "0" {
		return "", false
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	return net.JoinHostPort(host, u.Port()), ip != nil && ip.IsLoopback()
}

// ownConfigs are the places where cloudflared looks for a configuration when it is given none (cloudflared, config/configuration.go).
func ownConfigs(home string) []string {
	var dirs []string
	if home != "" {
		dirs = append(dirs, filepath.Join(home, ".cloudflared"), filepath.Join(home, ".cloudflare-warp"), filepath.Join(home, "cloudflare-warp"))
	}
	if runtime.GOOS != "windows" {
		dirs = append(dirs, "/etc/cloudflared", "/usr/local/etc/cloudflared")
	}
	var paths []string
	for _, dir := range dirs {
		paths = append(paths, filepath.Join(dir, "config.yml"), filepath.Join(dir, "config.yaml"))
	}
	return paths
}

// arguments are those of the program, which forwards to origin.
func (s settings) arguments(origin, metrics string) []string {
	if s.quick() {
		args := []string{"tunnel", "--url", "http://" + origin, "--metrics", metrics, "--no-autoupdate"}
		if s.shadow {
			// The ingress rules of that file would lead the tunnel elsewhere.
			args = append(args, "--config", os.DevNull)
		}
		return args
	}
	args := []string{"tunnel", "--config", s.file, "--metrics", metrics, "--no-autoupdate", "run"}
	if !s.ingress {
		args = append(args, "--url", "http://"+origin)
	}
	return args
}

// environment returns the variables that the program gets: all but other programs' secrets and, for a quick tunnel, those that would make
// it another kind of tunnel.
func (s settings) environment(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		variable, _, _ := strings.Cut(v, "=")
		switch variable {
		case env.WebhookSecret, env.HFToken, env.NgrokAuthtoken:
			return true
		case "TUNNEL_NAME", "TUNNEL_HOSTNAME", env.TunnelToken, "TUNNEL_TOKEN_FILE", "TUNNEL_HELLO_WORLD", "TUNNEL_UNIX_SOCKET", "TUNNEL_DNS":
			return s.quick()
		}
		return strings.HasPrefix(variable, "HUBHOOK_") && variable != "HUBHOOK_PROCESS" // by which `hubhook dev` finds its processes
	})
}
