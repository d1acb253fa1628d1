package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	w := os.Args[1]
	n, _ := strconv.Atoi(os.Args[2])
	words := strings.Split(w, "_")
	text, e := os.ReadFile(os.Getenv("BENCH_DATA") + "/json/" + words[2] + ".json")
	if e != nil {
		panic(e)
	}
	var value any
	if e = json.Unmarshal(text, &value); e != nil {
		panic(e)
	}
	operation := func() {
		var v any
		if json.Unmarshal(text, &v) != nil {
			panic("decode")
		}
	}
	if words[1] == "encode" {
		operation = func() {
			var b bytes.Buffer
			encoder := json.NewEncoder(&b)
			encoder.SetEscapeHTML(false)
			if encoder.Encode(value) != nil {
				panic("encode")
			}
		}
	}
	for i := 0; i < n/10+1; i++ {
		operation()
	}
	t0 := time.Now()
	for i := 0; i < n; i++ {
		operation()
	}
	t := time.Since(t0).Seconds()
	fmt.Printf("%s %d %.6f %.1f\n", w, n, t, float64(n)/t)
}
