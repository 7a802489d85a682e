package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// page is a Markdown file.
type page struct {
	path  string // relative to the root
	lines []string
}

// block is a fenced block of code in a page.
type block struct {
	language string
	line     int // in the page
	text     string
}

func pages(t *testing.T) (all []page) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		all = append(all, page{name, strings.Split(string(text), "\n")})
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 10)
	return all
}

// split returns the blocks of a page, and its text with an empty line for each line of a block.
func (p page) split() (blocks []block, text []string) {
	var b *block
	for i, line := range p.lines {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```") // in a list it is indented
		switch {
		case fence && b == nil:
			b = &block{language: language, line: i + 1}
		case fence:
			blocks = append(blocks, *b)
			b = nil
		case b != nil:
			b.text += line + "\n"
		default:
			text = append(text, line)
			continue
		}
		text = append(text, "")
	}
	return blocks, text
}

// TestReadmeProgram checks that the README's first program is examples/hello.
func TestReadmeProgram(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks, _ := page{lines: strings.Split(string(readme), "\n")}.split()
	require.Equal(t, "go", blocks[0].language)
	source, err := os.ReadFile(filepath.Join(root, "examples/hello/main.go"))
	require.NoError(t, err)
	_, program, found := strings.Cut(string(source), "\npackage main\n")
	require.True(t, found)
	assert.Equal(t, "package main\n"+program, blocks[0].text)
	assert.Less(t, strings.Count(blocks[0].text, "\n"), 25, "the first program should be short")
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#+ (.*)`)
)

// TestLinks checks that the target of each link within the repository exists.
func TestLinks(t *testing.T) {
	links := 0
	for _, p := range pages(t) {
		_, text := p.split()
		for i, line := range text {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(match[1], "://") {
					continue
				}
				links++
				path, anchor, _ := strings.Cut(match[1], "#")
				target := filepath.Join(root, p.path)
				if path != "" {
					target = filepath.Join(root, filepath.Dir(p.path), path)
				}
				if _, err := os.Stat(target); !assert.NoError(t, err, "%s:%d", p.path, i+1) || anchor == "" {
					continue
				}
				assert.Contains(t, anchors(t, target), anchor, "%s:%d: %s has no such heading", p.path, i+1, target)
			}
		}
	}
	require.Greater(t, links, 30)
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(t *testing.T, path string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	_, lines := page{lines: strings.Split(string(text), "\n")}.split()
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, line := range lines {
		if match := heading.FindStringSubmatch(line); match != nil {
			all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-"))
		}
	}
	return all
}
