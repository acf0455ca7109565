package host

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlone: a suspect waits for those that are handled, whatever their function,
// and those that come later wait for it.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAlone()
		a.share(10 * time.Second)
		a.share(time.Second)
		told := make(chan string, 2)
		endFirst, err := a.beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			end, is, err := a.alone(t.Context())
			if !is || err != nil {
				t.Errorf("it was alone: %v, %v", is, err)
			}
			told <- "alone"
			time.Sleep(5 * time.Second)
			end()
		}()
		synctest.Wait()
		go func() {
			end, err := a.beside(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			told <- "after"
			end()
		}()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("%s began beside the first", <-told)
		}
		endFirst()
		synctest.Wait()
		if n := len(told); n != 1 || <-told != "alone" {
			t.Errorf("%d began after the first, or another than the suspect", n)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(told) != 1 {
			t.Error("the last never began")
		}
	})
}

// TestAloneBesideWhatNeverReturns: it stops neither those that are suspect nor
// those that are not.
func TestAloneBesideWhatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAlone()
		a.share(10 * time.Second)
		if _, err := a.beside(t.Context()); err != nil { // for ever
			t.Fatal(err)
		}
		began := time.Now()
		end, is, err := a.alone(t.Context())
		if is || err != nil || time.Since(began) != a.bound() {
			t.Errorf("after %v it was alone: %v, %v", time.Since(began), is, err)
		}
		end()
	})
	synctest.Test(t, func(t *testing.T) {
		a := NewAlone()
		a.share(10 * time.Second)
		end, is, err := a.alone(t.Context()) // for ever, or nearly
		if !is || err != nil {
			t.Fatal(is, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.beside(ctx); err == nil {
			t.Error("another was handled beside it at once")
		}
		endAfter, err := a.beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		endAfter()
		end()
		if !a.places.TryAcquire(allPlaces) {
			t.Error("places are missing in the end")
		}
	})
}
