module github.com/fanfare-go/fanfare/internal/browsers

go 1.26.0

require (
	github.com/evanw/esbuild v0.28.2
	github.com/fanfare-go/fanfare v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/coder/websocket v1.8.15 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/fanfare-go/fanfare => ../..
