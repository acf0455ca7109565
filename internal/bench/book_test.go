package bench

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waybill-go/waybill/functions/ledger"
	"github.com/waybill-go/waybill/functions/order"
	"github.com/waybill-go/waybill/internal/scenario"
)

// testBook has orders of 400, all of customer r-0.
func testBook() *book {
	return newBook("r", func(n int64) (scenario.Way, scenario.Order) {
		return scenario.Ship, scenario.Ship.New(id("r", n), "r-0", 200_00)
	})
}

func entry(kind string, n int64) ledger.Entry {
	return ledger.Entry{Kind: kind, Key: id("r", n), Customer: "r-0", Amount: 400_00}
}

// TestWhatBecameOfAnOrder tells the book what happened, in words: types of events,
// and kinds of entries with a +.
func TestWhatBecameOfAnOrder(t *testing.T) {
	for happened, want := range map[string]struct {
		end     string
		settled bool
		spent   order.Money
		wrong   string
	}{
		"created": {"", false, 0, ""},
		"created paymentdebited +debited shipped":         {"shipped", true, 400_00, ""},
		"shipped +debited":                                {"shipped", true, 400_00, ""},
		"shipped shipped":                                 {"shipped", false, 400_00, ""},
		"paymentdeclined":                                 {"", false, 0, ""},
		"+declined paymentdeclined paymentvoided":         {"paymentdeclined", true, 0, ""},
		"cancelled +closed paymentvoided":                 {"cancelled", true, 0, ""},
		"+debited cancelled +voided paymentvoided":        {"cancelled", true, 0, ""},
		"+debited rejected paymentvoided":                 {"rejected", false, 0, ""},
		"+debited +debited":                               {"", false, 0, "debited 2 times"},
		"+debited shippingfailed +voided +voided":         {"", false, 0, "voided 2 times"},
		"shipped +voided":                                 {"shipped", false, 400_00, "shipped, and its payment is voided"},
		"shipped +debited +debited":                       {"shipped", true, 400_00, "debited once more"},
		"+debited overdue paymentvoided +voided +debited": {"overdue", true, 0, "debited once more"},
		"+deposited":                                      {"", false, 0, ""},
	} {
		t.Run(happened, func(t *testing.T) {
			b := testBook()
			tracked := b.begin(70)
			for word := range strings.FieldsSeq(happened) {
				if kind, ok := strings.CutPrefix(word, "+"); ok {
					b.entered(entry(kind, 70))
				} else {
					b.happened("r-70", word)
				}
			}
			if got := b.end(tracked); got != want.end {
				t.Errorf("ended with %q, want %q", got, want.end)
			}
			if settled := b.begin(70) == nil; settled != want.settled || settled != (len(b.open) == 0) {
				t.Errorf("settled: %v; open are %v", settled, b.open)
			}
			if got := b.spentBy("r-0"); got != want.spent {
				t.Errorf("spent %v, want %v", got, want.spent)
			}
			if wrong := strings.Join(b.wrong, "\n"); (wrong == "") != (want.wrong == "") || !strings.Contains(wrong, want.wrong) {
				t.Errorf("wrong is %q, want %q", wrong, want.wrong)
			}
		})
	}
}

// TestWhatWasNotAccepted is forgotten, unless its events say that it was placed.
func TestWhatWasNotAccepted(t *testing.T) {
	b := testBook()
	b.begin(1)
	b.giveUp(1)
	b.begin(2)
	b.happened("r-2", "created")
	b.giveUp(2)
	if len(b.open) != 1 || b.open[2] == nil {
		t.Errorf("open are %v", b.open)
	}
	b.happened("r-1", "shipped")
	b.happened("other-3", "shipped")
	b.happened("r--3", "shipped")
	if got := b.spentBy("r-0"); got != 400_00 || len(b.open) != 2 {
		t.Errorf("spent %v, open are %v", got, b.open)
	}
}

// TestWrongEntries: what is entered is what the order costs, and its customer's.
func TestWrongEntries(t *testing.T) {
	b := testBook()
	b.begin(1)
	dear := entry(ledger.Debited, 1)
	dear.Amount++
	b.entered(dear)
	other := entry(ledger.Debited, 2)
	other.Customer = "r-5"
	b.entered(other)
	if len(b.wrong) != 2 {
		t.Errorf("found %q", b.wrong)
	}
}

func TestNews(t *testing.T) {
	b := testBook()
	var got []string
	for i, sequence := range []uint64{5, 6, 4, 5, 6, 7} {
		got = append(got, fmt.Sprint(i, b.isNews("A", sequence)))
	}
	if want := "0 true 1 true 2 false 3 false 4 false 5 true"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	if !b.isNews("B", 1) {
		t.Error("another stream is at its own sequence")
	}
}
