module github.com/waybill-go/waybill/tools

go 1.26.0
