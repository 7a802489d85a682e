package ws

// For the fuzz targets, which compare these with slower ones.
var (
	AppendFrame = appendFrame
	AppendClose = appendClose
	ParseClose  = parseClose
)

// Deflater is a deflater.
type Deflater struct{ d deflater }

// AppendFrame is deflater.appendFrame for text.
func (d *Deflater) AppendFrame(b, payload []byte) []byte {
	return d.d.appendFrame(b, opText, payload, false)
}
