package config

import (
	"fmt"
	"reflect"
	"strconv"
)

// Flags makes a flag of every variable: a pointer to a struct that kong reads
// (kong.Embed), and the lookup of what was given on the command line.
func Flags(variables []Variable) (flags any, given Lookup) {
	fields := make([]reflect.StructField, len(variables))
	index := make(map[string]int, len(variables))
	for i, v := range variables {
		help := fmt.Sprintf("%s (%s)", v.Help, v.Name)
		if v.Default != "" {
			help = fmt.Sprintf("%s (%s, default %s)", v.Help, v.Name, v.Default)
		}
		fields[i] = reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: reflect.TypeFor[*string](),
			Tag: reflect.StructTag(fmt.Sprintf(`name:%q help:%s placeholder:"VALUE" group:"settings"`, v.Flag(), strconv.Quote(help))),
		}
		index[v.Name] = i
	}
	values := reflect.New(reflect.StructOf(fields))
	return values.Interface(), func(name string) (string, bool) {
		i, ok := index[name]
		if !ok {
			return "", false
		}
		value, ok := values.Elem().Field(i).Interface().(*string)
		if !ok || value == nil {
			return "", false
		}
		return *value, true
	}
}
