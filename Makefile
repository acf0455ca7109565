# The commands of a developer. `make` lists them.

TOOL = go tool -modfile=.ci/tools.mod
LINT = go tool -modfile=.ci/lint.mod golangci-lint

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: ## Run everything in one process
	go run .

.PHONY: test
test: ## Run the tests
	go test ./...

.PHONY: race
race: ## Run the tests as CI does: race detector, random order
	go test -race -shuffle=on ./...

.PHONY: bench
bench: ## Run the Go benchmarks
	go test -run '^$$' -bench . ./eventstore/...
	go test -run '^$$' -bench 'Consumer|Replicas' -benchtime 5x ./runtime/host
	go test -run '^$$' -bench Endpoint -benchtime 5000x ./runtime/host

.PHONY: lint
lint: ## Check the style of the code and of the protocol
	$(LINT) run
	cd proto && go tool -modfile=../.ci/tools.mod buf lint

.PHONY: generate
generate: ## Make the generated code anew
	cd proto && go tool -modfile=../.ci/tools.mod buf generate
	env -i PATH="$$PATH" HOME="$$HOME" go run . manifests >deploy/kubernetes/waybill.yaml.new
	mv deploy/kubernetes/waybill.yaml.new deploy/kubernetes/waybill.yaml

.PHONY: verify
verify: generate ## Check that generated code and go.mod are current
	go mod tidy -diff
	cd deploy/examples/booking && go mod tidy -diff
	git diff --exit-code -- proto deploy/kubernetes
	test -z "$$(git status --porcelain -- proto deploy/kubernetes)"

.PHONY: upgrade
upgrade: ## Run the build of .ci/previous beside this one, under load
	bash .ci/upgrade

.PHONY: ci
ci: ## Run what CI runs
	bash .ci/run
