// Command distribution says how the library that containerd uses reads image references.
//
// Each line of stdin is a JSON string, the reference. Each line of stdout is a JSON array of three strings:
// the normalised form with tag and digest kept, the form that containerd resolves (ParseDockerRef: the tag
// is dropped where there is a digest), and the error; either both forms or the error are empty.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/distribution/reference"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	for lines.Scan() {
		var text string
		if err := json.Unmarshal(lines.Bytes(), &text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		full, resolved, err := read(text)
		answer := [3]string{full, resolved, ""}
		if err != nil {
			answer = [3]string{"", "", err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			os.Exit(1)
		}
	}
}

func read(text string) (full, resolved string, err error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return "", "", err
	}
	ref, err := reference.ParseDockerRef(text)
	if err != nil {
		return "", "", err
	}
	return reference.TagNameOnly(named).String(), ref.String(), nil
}
