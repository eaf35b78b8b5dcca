// Package quiet reads from connections that are quiet most of the time. While nothing comes, a connection owns no
// buffer, and its goroutine waits in so few and small frames that the smallest stack, 2 KiB, has room for
// them: thousands of idle devices cost a gateway that and little more. Whoever handles the input does it in
// functions that have returned when [Input.Fill] is called again, and hands over to a new goroutine
// when they have grown the stack, because the garbage collector does not shrink it to the smallest size.
package quiet
