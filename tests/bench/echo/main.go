// A webhook that does nothing: it allows whatever it is asked, repeating the uid. What net/http and TLS cost
// by themselves, for the gateway to be compared with.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync/atomic"
)

// How often it was asked: whoever measures looks whether the API server really came by.
var asked atomic.Int64

type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    struct {
		UID string `json:"uid"`
	} `json:"request"`
}

type answer struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   struct {
		UID     string `json:"uid"`
		Allowed bool   `json:"allowed"`
	} `json:"response"`
}

func allow(w http.ResponseWriter, r *http.Request) {
	asked.Add(1)
	var question review
	if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	said := answer{APIVersion: question.APIVersion, Kind: question.Kind}
	said.Response.UID, said.Response.Allowed = question.Request.UID, true
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(said); err != nil {
		log.Print(err)
	}
}

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: echo ADDRESS CERTIFICATE KEY")
	}
	http.HandleFunc("/", allow)
	http.HandleFunc("/asked", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, asked.Load()) })
	log.Fatal(http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], nil))
}
