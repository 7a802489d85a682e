package docs_test

// The packages that the pages' code uses. Importing them keeps them in go.mod.
import (
	_ "github.com/alexedwards/scs/v2"
	_ "github.com/go-chi/chi/v5"
	_ "github.com/golang-jwt/jwt/v5"
	_ "github.com/gorilla/sessions"
	_ "github.com/modelcontextprotocol/go-sdk/mcp"
	_ "github.com/nats-io/nats.go"
	_ "github.com/olahol/melody"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/r3labs/sse/v2"
	_ "github.com/redis/go-redis/v9"
	_ "github.com/starfederation/datastar-go/datastar"
	_ "github.com/tmaxmax/go-sse"

	_ "github.com/fanfare-go/fanfare/broadcast/filejournal"
	_ "github.com/fanfare-go/fanfare/broadcast/natsjournal"
	_ "github.com/fanfare-go/fanfare/broadcast/prometheusstats"
	_ "github.com/fanfare-go/fanfare/broadcast/redisjournal"
	_ "github.com/gorilla/websocket"
)
