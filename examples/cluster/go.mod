module github.com/fanfare-go/fanfare/examples/cluster

go 1.26.0

require (
	github.com/fanfare-go/fanfare v0.1.0
	github.com/fanfare-go/fanfare/broadcast/natsjournal v0.1.0
	github.com/fanfare-go/fanfare/broadcast/redisjournal v0.1.0
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/redis/go-redis/v9 v9.23.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/coder/websocket v1.8.15 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nats.go v1.55.0 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace (
	github.com/fanfare-go/fanfare => ../..
	github.com/fanfare-go/fanfare/broadcast/natsjournal => ../../broadcast/natsjournal
	github.com/fanfare-go/fanfare/broadcast/redisjournal => ../../broadcast/redisjournal
)
