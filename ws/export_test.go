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

// Phase is a phase.
type Phase = phase

// The phases.
const (
	Open     = open
	Ending   = ending
	Closing  = closing
	Refusing = refusing
	Dead     = dead
)

// PhaseWord is a phaseWord.
type PhaseWord struct{ w phaseWord }

// NewPhaseWord returns a PhaseWord in a phase.
func NewPhaseWord(p Phase) *PhaseWord {
	w := new(PhaseWord)
	w.w.word.Store(uint32(p))
	return w
}

// To is phaseWord.to.
func (w *PhaseWord) To(next Phase) (from Phase, changed bool) { return w.w.to(next) }

// Load is phaseWord.load.
func (w *PhaseWord) Load() Phase { return w.w.load() }
