package ws

// For the fuzz targets, which compare these with slower ones.
var (
	AppendFrame = appendFrame
	AppendClose = appendClose
	ParseClose  = parseClose
)
