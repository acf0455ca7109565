package functiontest

import "strings"

// around is how many equal lines are shown beside one that differs.
const around = 3

// diff shows what differs line by line: "-" is wanted only, "+" is there only.
func diff(want, got string) string {
	lines := compare(split(want), split(got))
	var b strings.Builder
	hidden := false
	for i, line := range lines {
		near := false
		for _, l := range lines[max(i-around, 0):min(i+around+1, len(lines))] {
			near = near || l[0] != ' '
		}
		switch {
		case near:
			b.WriteString(line + "\n")
		case !hidden:
			b.WriteString("  ...\n")
		}
		hidden = !near
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// compare merges two texts along their longest common subsequence of lines.
func compare(want, got []string) (merged []string) {
	// common[i][j] is how many lines want[i:] and got[j:] have in common.
	common := make([][]int, len(want)+1)
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			merged = append(merged, "  "+want[i])
			i, j = i+1, j+1
		case j == len(got) || i < len(want) && common[i+1][j] >= common[i][j+1]:
			merged = append(merged, "- "+want[i])
			i++
		default:
			merged = append(merged, "+ "+got[j])
			j++
		}
	}
	return merged
}
