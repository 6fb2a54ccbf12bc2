package env

// The variables that hubhook reads and that stand for no flag. `make docs` makes a table of them and their comments.
const (
	WebhookSecret    = "WEBHOOK_SECRET"          // webhook secrets, separated by commas. A Hub Job and a command of `run` get one
	NgrokAuthtoken   = "NGROK_AUTHTOKEN"         // ngrok's token
	NgrokDomain      = "NGROK_DOMAIN"            // the public URL to ask ngrok for
	Port             = "PORT"                    // the local port; not in a Space
	HFToken          = "HF_TOKEN"                // the Hub's token
	OldHFToken       = "HUGGING_FACE_HUB_TOKEN"  // the Hub's token, if `HF_TOKEN` is not set
	HFTokenPath      = "HF_TOKEN_PATH"           // a file with the Hub's token
	HFHome           = "HF_HOME"                 // a directory whose file `token` has the Hub's token, by default `~/.cache/huggingface`
	HFEndpoint       = "HF_ENDPOINT"             // the Hub's address instead of `https://huggingface.co`
	SpaceID          = "SPACE_ID"                // a Docker Space sets it; hubhook opens no tunnel there
	SpaceHost        = "SPACE_HOST"              // a Docker Space sets it to its public host
	InspectorToken   = "HUBHOOK_INSPECTOR_TOKEN" // the inspector's token. It has no flag, because other users can read a command line
	Dev              = "HUBHOOK_DEV"             // `hubhook dev` sets it to `1`, for programs that use hubhook's library
	StateHome        = "XDG_STATE_HOME"          // the directory of all data directories and of trusted host keys, by default `~/.local/state`
	ConfigHome       = "XDG_CONFIG_HOME"         // the directory of `ngrok/ngrok.yml`, by default `~/.config`
	CacheHome        = "XDG_CACHE_HOME"          // the directory of `huggingface/token`, by default `~/.cache`
	Home             = "HOME"                    // your home directory
	UserProfile      = "USERPROFILE"             // your home directory on Windows
	LocalAppData     = "LocalAppData"            // the directory of data directories and of `ngrok\ngrok.yml` on Windows
	SSHAuthSock      = "SSH_AUTH_SOCK"           // the agent whose keys log in at an SSH server
	HTTPSProxy       = "HTTPS_PROXY"             // the proxy on the way to ngrok, and to the public URL when it is checked; in small letters, too
	AllProxy         = "ALL_PROXY"               // the proxy on the way to ngrok, if `HTTPS_PROXY` is not set; in small letters, too
	NoProxy          = "NO_PROXY"                // hosts that are reached without a proxy; in small letters, too
	TunnelToken      = "TUNNEL_TOKEN"            // cloudflared's token, which hubhook shows nowhere
	LoginName        = "USER"                    // the name to log in with at an SSH server
	OldLoginName     = "LOGNAME"                 // the name to log in with, if `USER` is not set
	WindowsLoginName = "USERNAME"                // the name to log in with on Windows
	JobPayload       = "WEBHOOK_PAYLOAD"         // the payload; a Hub Job and a command of `run` get it
	JobPayloadFile   = "WEBHOOK_PAYLOAD_FILE"    // the path of a file with the payload, if it is too large for a variable
	JobRepo          = "WEBHOOK_REPO_ID"         // the name of the repo; a Hub Job and a command of `run` get it
	JobRepoType      = "WEBHOOK_REPO_TYPE"       // the type of the repo; a Hub Job and a command of `run` get it
	JobWebhookID     = "WEBHOOK_ID"              // the `Webhook-Id` of the delivery; a Hub Job and a command of `run` get it
	NoColor          = "NO_COLOR"                // no colours and no links. Without a terminal there are none anyway
	Terminal         = "TERM"                    // `dumb` means a terminal without colours
	CI               = "CI"                      // if it is set, hubhook asks no question
	Path             = "PATH"                    // where the programs are that hubhook runs
	Tmux             = "TMUX"                    // tmux sets it; hubhook copies a URL in another way there
	Display          = "DISPLAY"                 // Linux: if neither it nor `WAYLAND_DISPLAY` is set, hubhook opens no browser
	WaylandDisplay   = "WAYLAND_DISPLAY"         // see `DISPLAY`
)
