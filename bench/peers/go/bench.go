// Go. usage: bench WORKLOAD N [PORT]. Run with GOMAXPROCS=1 for the single-threaded rows.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

var W string
var N, PORT int
var dir = os.Getenv("BENCH_DATA")

func par(k int, f func(i int)) {
	var wg sync.WaitGroup
	wg.Add(k)
	for i := 0; i < k; i++ {
		go func(i int) { defer wg.Done(); f(i) }(i)
	}
	wg.Wait()
}
func sw(tasks int) {
	par(tasks, func(int) {
		for i := N / tasks; i > 0; i-- {
			runtime.Gosched()
		}
	})
}
func guarded(tasks, width int) {
	s := make(chan struct{}, width)
	par(tasks, func(int) {
		for i := N / tasks; i > 0; i-- {
			s <- struct{}{}
			runtime.Gosched()
			<-s
		}
	})
}
func queue(k int) {
	q := make(chan int, 100)
	par(2*k, func(i int) {
		for j := N / k; j > 0; j-- {
			if i < k {
				q <- j
			} else {
				<-q
			}
		}
	})
}
func fetch(c *http.Client, u string) {
	r, e := c.Get(u)
	if e != nil {
		panic(e)
	}
	b, e := io.ReadAll(r.Body)
	r.Body.Close()
	if e != nil || len(b) != 13 {
		panic("bad answer")
	}
}

// jobs splits n over k goroutines by a shared counter.
func jobs(n, k int, f func(i int)) {
	var m sync.Mutex
	next := 0
	par(k, func(int) {
		for {
			m.Lock()
			i := next
			next++
			m.Unlock()
			if i >= n {
				return
			}
			f(i)
		}
	})
}

var runs = map[string]func(){
	"switch2":    func() { sw(2) },
	"switch1000": func() { sw(1000) },
	"spawn_join": func() {
		for i := 0; i < N/1000; i++ {
			var wg sync.WaitGroup
			wg.Add(1000)
			for j := 0; j < 1000; j++ {
				go func() { wg.Done() }()
			}
			wg.Wait()
		}
	},
	"sleepers": func() { par(N, func(int) { time.Sleep(500*time.Millisecond + time.Duration(rand.Int63n(1000))*time.Millisecond) }) },
	// wait_for over an opaque operation: a goroutine, a channel, a timer stopped afterwards
	"waitfor": func() {
		for i := 0; i < N; i++ {
			c := make(chan int, 1)
			go func() { c <- 1 }()
			t := time.NewTimer(10 * time.Second)
			select {
			case <-c:
			case <-t.C:
				panic("timeout")
			}
			t.Stop()
		}
	},
	"waitfor_yield": func() {
		for i := 0; i < N; i++ {
			c := make(chan int, 1)
			go func() { runtime.Gosched(); c <- 1 }()
			t := time.NewTimer(10 * time.Second)
			select {
			case <-c:
			case <-t.C:
				panic("timeout")
			}
			t.Stop()
		}
	},
	"waitfor_context": func() { // the operation takes a context: no extra goroutine
		for i := 0; i < N; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if ctx.Err() != nil {
				panic("timeout")
			}
			cancel()
		}
	},
	"waitfor_yield_context": func() {
		for i := 0; i < N; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			runtime.Gosched()
			if ctx.Err() != nil {
				panic("timeout")
			}
			cancel()
		}
	},
	"lock_uncontended": func() {
		var m sync.Mutex
		for i := 0; i < N; i++ {
			m.Lock()
			m.Unlock()
		}
	},
	"semaphore_uncontended": func() {
		s := make(chan struct{}, 1)
		for i := 0; i < N; i++ {
			s <- struct{}{}
			<-s
		}
	},
	"queue_uncontended": func() {
		q := make(chan int, 100)
		for i := 0; i < N; i++ {
			q <- i
			if <-q != i {
				panic("order")
			}
		}
	},
	"queue11":   func() { queue(1) },
	"queue44":   func() { queue(4) },
	"semaphore": func() { guarded(1000, 10) },
	"lock": func() {
		var m sync.Mutex
		par(100, func(int) {
			for i := N / 100; i > 0; i-- {
				m.Lock()
				runtime.Gosched()
				m.Unlock()
			}
		})
	},
	"event": func() { // two goroutines over two one-slot channels
		a, b := make(chan struct{}, 1), make(chan struct{}, 1)
		par(2, func(i int) {
			for j := N / 2; j > 0; j-- {
				if i == 0 {
					b <- struct{}{}
					<-a
				} else {
					<-b
					a <- struct{}{}
				}
			}
		})
	},
	"condition": func() {
		var m sync.Mutex
		c := sync.NewCond(&m)
		turn := 0
		par(2, func(me int) {
			for j := N / 2; j > 0; j-- {
				m.Lock()
				for turn != me {
					c.Wait()
				}
				turn = 1 - me
				c.Signal()
				m.Unlock()
			}
		})
	},
	"executor": func() { // 4 goroutines locked to their own OS threads, 100 waiters
		type job struct {
			x int
			r chan int
		}
		in := make(chan job, 100)
		for i := 0; i < 4; i++ {
			go func() {
				runtime.LockOSThread()
				for j := range in {
					j.r <- j.x + 1
				}
			}()
		}
		jobs(N, 100, func(i int) { r := make(chan int, 1); in <- job{i, r}; <-r })
	},
	"cpu_map": func() { // two goroutines
		jobs(N, 2, func(seed int) {
			s := seed
			for i := 1; i <= 1000000; i++ {
				s = (s*31 + i) % 1000003
			}
			if s < 0 {
				panic("sum")
			}
		})
	},
	"file_many": func() {
		jobs(N, 64, func(i int) {
			b, e := os.ReadFile(dir + "/f" + strconv.Itoa(i%10000))
			if e != nil || len(b) != 4096 {
				panic("file")
			}
		})
	},
	"spawn": func() {
		jobs := make(chan bool)
		var w sync.WaitGroup
		for i := 0; i < 8; i++ {
			w.Add(1)
			go func() {
				for range jobs {
					if e := exec.Command("true").Run(); e != nil {
						panic(e)
					}
				}
				w.Done()
			}()
		}
		for i := 0; i < N; i++ {
			jobs <- true
		}
		close(jobs)
		w.Wait()
	},
	"file_seq": func() {
		f, e := os.Open(dir + "/big")
		if e != nil {
			panic(e)
		}
		b := make([]byte, 65536)
		N = 0
		for {
			k, e := f.Read(b)
			N += k
			if e != nil {
				break
			}
		}
	},
	"http_client": func() {
		c := &http.Client{Transport: &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}}
		u := fmt.Sprintf("http://127.0.0.1:%d/", PORT)
		jobs(N, 64, func(int) { fetch(c, u) })
	},
}

func main() {
	if len(os.Args) < 2 {
		return
	}
	W = os.Args[1]
	if len(os.Args) > 2 {
		N, _ = strconv.Atoi(os.Args[2])
	}
	if len(os.Args) > 3 {
		PORT, _ = strconv.Atoi(os.Args[3])
	}
	addr := fmt.Sprintf("127.0.0.1:%d", N)
	switch W {
	case "http_server":
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, "Hello, World!")
		})
		panic(http.ListenAndServe(addr, nil))
	case "http_json":
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			var order struct {
				Id       int    `json:"id"`
				Customer string `json:"customer"`
				Items    []struct {
					Quantity int     `json:"quantity"`
					Price    float64 `json:"price"`
				} `json:"items"`
			}
			if json.NewDecoder(r.Body).Decode(&order) != nil {
				w.WriteHeader(400)
				return
			}
			total := 0.0
			for _, item := range order.Items {
				total += float64(item.Quantity) * item.Price
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{
				"id": order.Id, "customer": order.Customer, "count": len(order.Items), "total": total})
		})
		panic(http.ListenAndServe(addr, nil))
	case "http_upload":
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			io.WriteString(w, strconv.Itoa(len(body)))
		})
		panic(http.ListenAndServe(addr, nil))
	case "http_file", "http_file_small":
		panic(http.ListenAndServe(addr, http.FileServer(http.Dir(os.Getenv("BENCH_WEB")))))
	case "ws_echo":
		up := websocket.Upgrader{}
		http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			c, e := up.Upgrade(w, r, nil)
			if e != nil {
				return
			}
			defer c.Close()
			for {
				t, m, e := c.ReadMessage()
				if e != nil || c.WriteMessage(t, m) != nil {
					return
				}
			}
		})
		panic(http.ListenAndServe(addr, nil))
	case "tls_server":
		cert, e := tls.LoadX509KeyPair(os.Getenv("BENCH_CERT"), os.Getenv("BENCH_KEY"))
		if e != nil {
			panic(e)
		}
		l, e := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}})
		if e != nil {
			panic(e)
		}
		for {
			c, e := l.Accept()
			if e != nil {
				continue
			}
			go func() {
				defer c.Close()
				b := make([]byte, 65536)
				if _, e := c.Read(b); e != nil {
					return
				}
				for left := 1 << 30; left > 0; left -= len(b) {
					if _, e := c.Write(b); e != nil {
						return
					}
				}
			}()
		}
	case "tcp_echo":
		l, e := net.Listen("tcp", addr)
		if e != nil {
			panic(e)
		}
		for {
			c, e := l.Accept()
			if e != nil {
				continue
			}
			go func() {
				b := make([]byte, 4096)
				for {
					k, e := c.Read(b)
					if e != nil {
						c.Close()
						return
					}
					if _, e = c.Write(b[:k]); e != nil {
						c.Close()
						return
					}
				}
			}()
		}
	}
	run := runs[W]
	if run == nil {
		fmt.Fprintln(os.Stderr, "no workload", W)
		os.Exit(2)
	}
	t0 := time.Now()
	run()
	t := time.Since(t0).Seconds()
	fmt.Printf("%s %d %.6f %.1f\n", W, N, t, float64(N)/t)
}
