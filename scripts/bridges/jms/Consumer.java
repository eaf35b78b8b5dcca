import java.nio.charset.StandardCharsets;
import java.util.Collections;
import javax.jms.BytesMessage;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.ActiveMQConnectionFactory;

/** Prints what a JMS application sees of each message, a line each. Arguments: url, user, password, queue, selector. */
class Consumer {
  public static void main(String[] args) throws Exception {
    var connection = new ActiveMQConnectionFactory(args[1], args[2], args[0]).createConnection();
    connection.start();
    var session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
    var consumer = session.createConsumer(session.createQueue(args[3]), args[4].isEmpty() ? null : args[4]);
    System.out.println("READY");
    while (true) {
      var m = consumer.receive();
      var line = new StringBuilder();
      byte[] body;
      if (m instanceof TextMessage text) {
        line.append("text");
        body = text.getText().getBytes(StandardCharsets.UTF_8);
      } else if (m instanceof BytesMessage bytes) {
        line.append("bytes");
        body = new byte[(int) bytes.getBodyLength()];
        bytes.readBytes(body);
      } else {
        line.append(m.getClass().getName());
        body = new byte[0];
      }
      var names = Collections.list((java.util.Enumeration<String>) m.getPropertyNames());
      Collections.sort(names);
      line.append(" priority=" + m.getJMSPriority() + " persistent=" + (m.getJMSDeliveryMode() == 2));
      line.append(" lives=" + (m.getJMSExpiration() == 0 ? 0 : m.getJMSExpiration() - System.currentTimeMillis()));
      line.append(" correlation=" + m.getJMSCorrelationID() + " replyTo=" + m.getJMSReplyTo());
      for (var name : names) {
        line.append(" " + name + "=" + m.getStringProperty(name));
      }
      System.out.println(line + " body=" + java.util.HexFormat.of().formatHex(body));
    }
  }
}
